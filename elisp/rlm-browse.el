;;; rlm-browse.el --- Ways about the buffer of a run  -*- lexical-binding: t; -*-

;; This program is free software: you can redistribute it and/or modify
;; it under the terms of the GNU General Public License as published by
;; the Free Software Foundation, either version 3 of the License, or
;; (at your option) any later version.

;; This program is distributed in the hope that it will be useful,
;; but WITHOUT ANY WARRANTY; without even the implied warranty of
;; MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
;; GNU General Public License for more details.

;; You should have received a copy of the GNU General Public License
;; along with this program.  If not, see <https://www.gnu.org/licenses/>.


;;; Commentary:

;; Commands that go to the next of a kind (iteration, sub-call, code, what
;; went wrong), to the answer and through its evidence, that fold to a
;; level, and that visit what is at point; and the index for Imenu.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'org)
(require 'org-element)
(require 'rlm-run)

(declare-function org-fold-show-children "org-fold" (&optional level))
(declare-function org-fold-show-entry "org-fold" (&optional hide-drawers))
(declare-function org-fold-show-subtree "org-fold" ())
(declare-function org-fold-show-all "org-fold" (&optional types))
(declare-function org-fold-hide-drawer-all "org-fold" ())

;;;; Moving

(defun rlm-browse--unfold ()
  "Show the entry at point and where it stands; drawers below it stay folded."
  (rlm-browse--reveal)
  (if (fboundp 'org-fold-show-subtree)
      (org-fold-show-subtree)
    (with-no-warnings (org-show-subtree)))
  (org-cycle-hide-drawers 'subtree))

(defun rlm-trajectory-next (count)
  "Go to the next visible heading, or COUNT headings on."
  (interactive "p" rlm-trajectory-mode)
  (org-next-visible-heading count))

(defun rlm-trajectory-previous (count)
  "Go to the previous visible heading, or COUNT headings back."
  (interactive "p" rlm-trajectory-mode)
  (org-next-visible-heading (- count)))

(defun rlm-trajectory-show-answer ()
  "Go to the answer, or to why there is none."
  (interactive nil rlm-trajectory-mode)
  (goto-char (or (rlm-browse--last-heading "Answer\\(?: so far\\)?")
                 (rlm-browse--last-heading "[CFS].*\\|Interrupted")
                 (user-error "There is no answer yet")))
  (rlm-browse--unfold)
  (recenter 0))

(defun rlm-browse--last-heading (regexp)
  "Return where the last heading of the second level is that matches REGEXP."
  (save-excursion
    (goto-char (point-max))
    (re-search-backward (format "^\\*\\* \\(?:%s\\)$" regexp) nil t)))

(defconst rlm-browse-kinds
  '((iteration . "^\\*+ Iteration [0-9]")
    (subcall . "^\\*+ \\(?:\\(?:Sub-call\\|Child run\\) [0-9]\\|Tool .*, call [0-9]\\)")
    (code . "^#\\+begin_src ")
    (error . "^\\*Code: [^*\n]+\\*\\|^- \\*\\(?:Error\\|Warning\\)\\*:\\|^\\*+ \\(?:Sub-call\\|Child run\\|Tool .*, call\\) [0-9]+ ([a-z]*\\(?:error\\|failed\\|cancelled\\|limit\\|interrupted\\)[,)]\\|^\\*\\* \\(?:Failed\\|Interrupted\\|Stopped by a limit\\)$"))
  "Regexps for the places to which one can go, by their kinds.")

(defun rlm-browse--go (kind count)
  "Go to the COUNTth next place of KIND, and unfold it; before it if negative."
  (let ((regexp (cdr (assq kind rlm-browse-kinds)))
        (start (point)))
    (if (< count 0) (beginning-of-line) (end-of-line))
    (let ((case-fold-search nil))
      (if (re-search-forward regexp nil t count)
          (progn (beginning-of-line)
                 (rlm-browse--reveal))
        (goto-char start)
        (user-error "There is no %s %s" (pcase kind
                                          ('subcall "sub-call")
                                          ('error "error")
                                          (_ kind))
                    (if (< count 0) "before" "after"))))))

(defun rlm-browse--reveal ()
  "Show the text at point; a heading itself stays folded, as do drawers.
The headings beside it are shown as well, so that each fold begins at the end
of one: what comes would be hidden in another."
  (when (invisible-p (point))
    (let ((folded nil))
      (save-excursion
        (unless (org-at-heading-p)
          (org-back-to-heading t)
          (push (point) folded))
        (while (and (invisible-p (point)) (org-up-heading-safe))
          (push (point) folded))
        (dolist (heading folded)
          (goto-char heading)
          (rlm-browse--show-children)))
      (when (invisible-p (point))
        (save-excursion
          (org-back-to-heading t)
          (rlm-browse--show-entry))))))

(defun rlm-browse--show-children ()
  "Show the headings right below that at point."
  (if (fboundp 'org-fold-show-children)
      (org-fold-show-children)
    (with-no-warnings (org-show-children))))

(defun rlm-browse--show-entry ()
  "Show the text of the heading at point."
  (if (fboundp 'org-fold-show-entry)
      (org-fold-show-entry)
    (with-no-warnings (org-show-entry)))
  (org-cycle-hide-drawers 'children))

(defun rlm-browse-next-iteration (count)
  "Go to the next iteration, or COUNT of them on."
  (interactive "p" rlm-trajectory-mode)
  (rlm-browse--go 'iteration count))

(defun rlm-browse-previous-iteration (count)
  "Go to the iteration before, or COUNT of them back."
  (interactive "p" rlm-trajectory-mode)
  (rlm-browse--go 'iteration (- count)))

(defun rlm-browse-next-subcall (count)
  "Go to the next sub-call or child run, or COUNT of them on."
  (interactive "p" rlm-trajectory-mode)
  (rlm-browse--go 'subcall count))

(defun rlm-browse-previous-subcall (count)
  "Go to the sub-call or child run before, or COUNT of them back."
  (interactive "p" rlm-trajectory-mode)
  (rlm-browse--go 'subcall (- count)))

(defun rlm-browse-next-code (count)
  "Go to the next piece of code, or COUNT of them on."
  (interactive "p" rlm-trajectory-mode)
  (rlm-browse--go 'code count))

(defun rlm-browse-previous-code (count)
  "Go to the piece of code before, or COUNT of them back."
  (interactive "p" rlm-trajectory-mode)
  (rlm-browse--go 'code (- count)))

(defun rlm-browse-next-error (count)
  "Go to the next thing that went wrong, or COUNT of them on."
  (interactive "p" rlm-trajectory-mode)
  (rlm-browse--go 'error count))

(defun rlm-browse-previous-error (count)
  "Go to the thing that went wrong before, or COUNT of them back."
  (interactive "p" rlm-trajectory-mode)
  (rlm-browse--go 'error (- count)))

(defun rlm-browse-fold (level)
  "Fold the buffer to LEVEL.
With 1 the question is shown, with 2 its iterations and the answer, with 3
their sub-calls and child runs too, and with 4 everything."
  (interactive (list (- last-command-event ?0)) rlm-trajectory-mode)
  (if (< level 4)
      (org-content level)
    (if (fboundp 'org-fold-show-all)
        (progn (org-fold-show-all '(headings blocks))
               (org-fold-hide-drawer-all))
      (with-no-warnings
        (org-show-all '(headings blocks))
        (org-cycle-hide-drawers 'all))))
  (when (invisible-p (point))
    (outline-previous-visible-heading 1)))

;;;; Visiting

(defun rlm-trajectory-follow-link ()
  "Visit the evidence or link at point, or else fold or unfold the heading."
  (interactive nil rlm-trajectory-mode)
  (let ((place (get-text-property (line-beginning-position) 'rlm-evidence)))
    (cond ((and place (string-match "\\`rlm-buffer:\\(https?://.*\\)" (car place)))
           (browse-url (match-string 1 (car place))))
          (place (apply #'rlm-browse-visit place))
          ((rlm-browse--visit-link))
          ((org-at-heading-p) (org-cycle))
          (t (user-error "There is no evidence or link here")))))

(defun rlm-browse-visit (place line)
  "Visit LINE of PLACE, a file's name or the URI of a buffer, in another window."
  (pop-to-buffer
   (if (string-prefix-p "rlm-buffer:" place)
       (rlm-browse--named-buffer (string-remove-prefix "rlm-buffer:" place))
     (unless (file-exists-p place)
       (user-error "%s is gone" (abbreviate-file-name place)))
     (find-file-noselect place)))
  (push-mark nil t)
  (let ((start (rlm-browse--line-start line)))
    (unless (<= (point-min) start (point-max))
      (widen))
    (goto-char start))
  (recenter))

(defun rlm-browse--named-buffer (name)
  "Return the buffer NAME, or visit the remote file NAME."
  (cond ((get-buffer name))
        ((string-prefix-p "(" name)     ; a node of Info
         (save-window-excursion (info name) (current-buffer)))
        ((file-remote-p name) (find-file-noselect name))
        (t (user-error "The buffer %s is gone" name))))

(defun rlm-browse--line-start (line)
  "Return where LINE of the whole buffer begins."
  (save-excursion
    (save-restriction
      (widen)
      (goto-char (point-min))
      (forward-line (1- line))
      (point))))

(defun rlm-browse--visit-link ()
  "Visit the link at point if it leads to a file or the web; return non-nil then.
Links that run something are the model's words and are not followed."
  (let ((link (org-element-context)))
    (when (eq (org-element-type link) 'link)
      (pcase (org-element-property :type link)
        ("file" (rlm-browse-visit
                 (expand-file-name (org-element-property :path link))
                 (string-to-number (or (org-element-property :search-option link) "1")))
         t)
        ("rlm" (org-link-open link) t)
        ((or "http" "https")
         (browse-url (org-element-property :raw-link link))
         t)
        (type (user-error "Links of type %s are not followed here" type))))))

;;;; Evidence, one after the other

(defun rlm-browse-next-evidence (count &optional reset)
  "Visit the evidence COUNT places on from point; from the first if RESET.
This is what `next-error' does in the buffer of a run.  Who is at its end, as
one is who has followed the run, has the evidence of the newest answer ahead."
  (when reset
    (goto-char (point-min)))
  (let* ((left (abs count)) (forward (>= count 0))
         (place (or (and forward (eobp) (rlm-browse--last-heading "Answer\\(?: so far\\)?"))
                    (point))))
    (while (> left 0)
      (setq place (rlm-browse--evidence place forward)
            left (1- left))
      (unless place
        (user-error "No more evidence")))
    (goto-char place)
    (dolist (window (get-buffer-window-list nil nil t))
      (set-window-point window place))
    (rlm-browse--reveal)
    (apply #'rlm-browse-visit (get-text-property place 'rlm-evidence))))

(defun rlm-browse--evidence (place forward)
  "Return where the line of evidence is after PLACE, or before it unless FORWARD."
  (save-excursion
    (goto-char place)
    (let (found)
      (while (and (not found)
                  (zerop (forward-line (if forward 1 -1)))
                  (not (and forward (eobp))))
        (let ((there (get-text-property (point) 'rlm-evidence)))
          (if there
              (setq found (point))
            ;; Past the text that has none.
            (goto-char (if forward
                           (max (point) (1- (or (next-single-property-change
                                                 (point) 'rlm-evidence)
                                                (point-max))))
                         (previous-single-property-change (point) 'rlm-evidence nil
                                                          (point-min)))))))
      found)))

;;;; Imenu

(defun rlm-browse-imenu ()
  "Return the index of this buffer: iterations, sub-calls, code and the answer."
  (save-excursion
    (save-restriction
      (widen)
      (append
       (delq nil
             (mapcar (pcase-lambda (`(,title . ,kind))
                       (when-let ((entries (rlm-browse--entries kind)))
                         (cons title entries)))
                     '(("Iterations" . iteration) ("Sub-calls" . subcall) ("Code" . code)
                       ("What went wrong" . error))))
       (when-let ((answer (rlm-browse--last-heading "Answer\\(?: so far\\)?")))
         (list (cons "Answer" (copy-marker answer))))))))

(defun rlm-browse--entries (kind)
  "Return the entries for the places of KIND in the index."
  (let ((case-fold-search nil) entries)
    (goto-char (point-min))
    (while (re-search-forward (cdr (assq kind rlm-browse-kinds)) nil t)
      (beginning-of-line)
      (push (cons (rlm-browse--entry-text kind) (point-marker)) entries)
      (end-of-line))
    (nreverse entries)))

(defun rlm-browse--entry-text (kind)
  "Return the words of the index for the place of KIND at point."
  (let ((line (lambda ()
                (string-trim (buffer-substring-no-properties (point) (line-end-position))
                             "[* ]+"))))
    (if (eq kind 'code)
        (save-excursion (forward-line) (funcall line))
      (funcall line))))

(provide 'rlm-browse)
;;; rlm-browse.el ends here
