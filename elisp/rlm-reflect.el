;;; rlm-reflect.el --- Learn from runs that were good or bad  -*- lexical-binding: t; -*-

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

;; `rlm-mark-good' and `rlm-mark-bad' say what you think of a run, and why.
;; `rlm-reflect' shows what the marked runs teach, as changes of the
;; strategy notes, one diff for each.  Those that you accept, and no others,
;; are told to models that answer questions of that kind from then on.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'subr-x)
(require 'diff-mode)
(require 'rlm)
(require 'rlm-client)
(require 'rlm-rpc)
(require 'rlm-run)

(declare-function rlm-read-run "rlm-commands" ())

;;;; Marks

(defun rlm-reflect--run ()
  "Return the id of this buffer's run, or let the user choose one."
  (let ((run (rlm-run-in-buffer)))
    (cond ((and run (rlm-run-id run)))
          (run (user-error "This question has not been asked yet"))
          (t (plist-get (rlm-read-run) :runId)))))

(defun rlm-reflect--mark (run good reason)
  "Mark RUN, an id, as GOOD, t, :json-false or nil, with REASON."
  (when-let ((buffer (rlm-client-buffer run)))
    (rlm-rpc-use-host (rlm-run-host (rlm-run-in-buffer buffer))))
  (rlm-rpc-ask
   'rlm/mark (list :runId run :good good :reason (string-trim reason))
   (lambda (_result)
     (message "The run is %s" (pcase good
                                ('t "marked as good")
                                ('nil "not marked any more")
                                (_ "marked as bad"))))
   (lambda (text) (message "rlm: %s" text))))

;;;###autoload
(defun rlm-mark-good (run reason)
  "Mark RUN, an id, as good, with REASON, so that later ones can learn from it.
Interactively, this is the run of the current buffer, or one that you choose."
  (interactive (list (rlm-reflect--run) (read-string "Good, because (may be empty): ")))
  (rlm-reflect--mark run t reason))

;;;###autoload
(defun rlm-mark-bad (run reason)
  "Mark RUN, an id, as bad, with REASON, so that later ones can learn from it.
Interactively, this is the run of the current buffer, or one that you choose."
  (interactive (list (rlm-reflect--run) (read-string "Bad, because (may be empty): ")))
  (rlm-reflect--mark run :json-false reason))

;;;###autoload
(defun rlm-unmark (run)
  "Take back what was said of RUN, an id.
Interactively, this is the run of the current buffer, or one that you choose."
  (interactive (list (rlm-reflect--run)))
  (rlm-reflect--mark run nil ""))

;;;; Proposals

(defconst rlm-reflect--buffer "*rlm notes*"
  "Name of the buffer with proposed changes of the notes.")

(defvar-local rlm-reflect--proposal nil
  "The server's proposal that this buffer shows, a plist.")

(defvar-local rlm-reflect--host nil
  "Where the server is that made the proposal, as `rlm-server-host'.")

(defvar-local rlm-reflect--accepted nil
  "Numbers of the changes that are to be made.")

(defvar rlm-reflect-mode-map
  (let ((map (make-sparse-keymap)))
    (suppress-keymap map)
    (define-key map "a" #'rlm-reflect-accept)
    (define-key map "n" #'rlm-reflect-next)
    (define-key map "p" #'rlm-reflect-previous)
    (define-key map "g" #'rlm-reflect)
    (define-key map "e" #'rlm-reflect-edit)
    (define-key map "q" #'quit-window)
    (define-key map (kbd "C-c C-c") #'rlm-reflect-commit)
    map)
  "Keys of `rlm-reflect-mode'.")

(define-derived-mode rlm-reflect-mode special-mode "rlm notes"
  "Major mode of proposed changes of the strategy notes.

\\{rlm-reflect-mode-map}"
  :interactive nil
  (setq-local font-lock-defaults '(diff-font-lock-keywords t nil nil nil)))

;;;###autoload
(defun rlm-reflect (&optional model)
  "Show a proposal of strategy notes, learnt from what is marked.
It is made by MODEL, a name; by default by the server's root model,
and where that is the embedded one, by counting.  Nothing is changed before
you accept it."
  (interactive)
  (message "Reflecting...")
  (let ((here (window-buffer)))
    (rlm-rpc-ask 'rlm/reflect (and model (list :model model))
                 (lambda (proposal) (rlm-reflect--show proposal here))
                 (lambda (text) (message "rlm: %s" text))
                 'never)))

(defun rlm-reflect--show (proposal here)
  "Show PROPOSAL, the server's answer.
Its window is selected only for who is still where it was asked for: HERE."
  (if (seq-empty-p (plist-get proposal :changes))
      (message "Nothing to change: %s" (rlm-reflect--figures proposal))
    (with-current-buffer (get-buffer-create rlm-reflect--buffer)
      (rlm-reflect-mode)
      (setq rlm-reflect--proposal proposal
            rlm-reflect--host rlm-server-host
            rlm-reflect--accepted nil)
      (rlm-reflect--draw)
      (goto-char (point-min))
      (rlm-reflect-next 1)
      ;; Windows that show it already have a point of their own.
      (dolist (window (get-buffer-window-list nil nil t))
        (set-window-point window (point)))
      (if (eq here (window-buffer))
          (pop-to-buffer (current-buffer))
        (display-buffer (current-buffer)))
      (message "a accepts the change at point, C-c C-c makes those that are accepted"))))

(defun rlm-reflect--figures (proposal)
  "Return in a line what PROPOSAL rests on."
  (format "%d good and %d bad runs, %s" (plist-get proposal :good) (plist-get proposal :bad)
          (let ((model (plist-get proposal :model)))
            (if (string-empty-p model) "proposed by counting" (concat "proposed by " model)))))

(defun rlm-reflect--draw ()
  "Draw the proposal of this buffer; point stays where it is."
  (let ((inhibit-read-only t)
        (here (point)))
    (erase-buffer)
    (insert "# " (rlm-reflect--figures rlm-reflect--proposal) "\n"
            "# " (abbreviate-file-name (rlm-reflect--path)) "\n")
    (seq-do-indexed #'rlm-reflect--draw-change (plist-get rlm-reflect--proposal :changes))
    (goto-char (min here (point-max)))))

(defun rlm-reflect--draw-change (change number)
  "Draw CHANGE, which has NUMBER."
  (let ((beg (point)))
    (insert (format "\n%s %s\n"
                    (if (memq number rlm-reflect--accepted) "[accepted]" "[not accepted]")
                    (plist-get change :kind))
            (plist-get change :diff))
    (put-text-property beg (point) 'rlm-reflect-change number)))

(defun rlm-reflect--at-point ()
  "Return the number of the change at point."
  (or (get-text-property (min (point) (1- (point-max))) 'rlm-reflect-change)
      (user-error "There is no change here")))

(defun rlm-reflect-accept ()
  "Accept the change at point, or don't after all, and go to the next one."
  (interactive nil rlm-reflect-mode)
  (let ((number (rlm-reflect--at-point)))
    (setq rlm-reflect--accepted (if (memq number rlm-reflect--accepted)
                                    (remq number rlm-reflect--accepted)
                                  (cons number rlm-reflect--accepted)))
    (rlm-reflect--draw)
    (rlm-reflect--go-to (1+ number))))

(defun rlm-reflect-next (count)
  "Go on by COUNT proposals."
  (interactive "p" rlm-reflect-mode)
  (rlm-reflect--go-to
   (+ count (or (get-text-property (point) 'rlm-reflect-change) -1))))

(defun rlm-reflect-previous (count)
  "Go back by COUNT proposals."
  (interactive "p" rlm-reflect-mode)
  (rlm-reflect-next (- count)))

(defun rlm-reflect--go-to (number)
  "Go to the change NUMBER, or to the nearest there is."
  (let ((last (1- (length (plist-get rlm-reflect--proposal :changes)))))
    (when-let ((place (text-property-any (point-min) (point-max) 'rlm-reflect-change
                                         (max 0 (min number last)))))
      (goto-char place)
      (forward-line 1))))

(defun rlm-reflect-commit ()
  "Make what is accepted part of the notes, and nothing else."
  (interactive nil rlm-reflect-mode)
  (unless rlm-reflect--accepted
    (user-error "No change is accepted; `a' accepts the one at point"))
  (rlm-rpc-use-host rlm-reflect--host)
  (let ((buffer (current-buffer))
        (path (rlm-reflect--path)))
    (rlm-rpc-ask
     'rlm/acceptNotes
     (list :proposal (plist-get rlm-reflect--proposal :proposal)
           :changes (vconcat (sort (copy-sequence rlm-reflect--accepted) #'<)))
     (lambda (result)
       (when (buffer-live-p buffer)
         (kill-buffer buffer))
       (message "%s in %s" (rlm-figure-count (plist-get result :accepted) "change")
                (abbreviate-file-name path)))
     (lambda (text) (message "rlm: %s" text)))))

(defun rlm-reflect-edit ()
  "Visit the file of the notes."
  (interactive nil rlm-reflect-mode)
  (find-file-other-window (rlm-reflect--path)))

(defun rlm-reflect--path ()
  "Return the name of the file of notes that the proposal here is about."
  (concat rlm-reflect--host (plist-get rlm-reflect--proposal :path)))

(provide 'rlm-reflect)
;;; rlm-reflect.el ends here
