;;; rlm-fold.el --- What of a run is folded, and stays cheap while it is  -*- lexical-binding: t; -*-

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

;; Folds of nodes and drawers are made here, by Org's own means but without
;; its search for where things end.  Text that is folded has no faces: Emacs
;; would look for them after each heading, and they would be a burden to
;; each garbage collection.

;;; Code:

(require 'org)

(defvar python-indent-guess-indent-offset-verbose)

(declare-function org-fold-region "org-fold" (from to flag &optional spec))

(defun rlm-fold-region (from to hide spec)
  "Hide the text between FROM and TO as what SPEC names, or show it if not HIDE."
  (let ((fold (and hide (rlm-fold--beginning-at from))))
    (cond ((and fold (eq (overlay-get fold 'invisible) spec) (<= (overlay-end fold) to))
           (move-overlay fold from to)) ; Org would make it anew, and garbage with it
          ((fboundp 'org-fold-region) (org-fold-region from to hide spec))
          (t (with-no-warnings (org-flag-region from to hide 'outline))))))

(defun rlm-fold--beginning-at (place)
  "Return the overlay that hides what follows PLACE and nothing before, or nil."
  (let ((overlay (cdr (get-char-property-and-overlay place 'invisible))))
    (and overlay (= (overlay-start overlay) place) overlay)))

(defun rlm-fold-drawer (beg)
  "Hide the text of the drawer that begins at BEG."
  (save-excursion
    (goto-char beg)
    (let ((from (line-end-position))
          (to (and (re-search-forward "^:END:$" nil t) (point))))
      (unless (or (null to) (invisible-p from))
        (rlm-fold-region from to t 'drawer)))))

(defun rlm-fold-show-newline ()
  "Show the newline before point if it is the last thing that is hidden.
Org 9.7 hides it with the last heading of a buffer that is folded by hand."
  (when (and (> (point) (point-min)) (invisible-p (1- (point))) (not (invisible-p (point))))
    (rlm-fold-region (1- (point)) (point) nil 'outline)))

(defun rlm-fold-heading (beg place)
  "Hide what follows the heading at BEG up to PLACE.
Where the heading is within a fold, that is the one which reaches to PLACE
then: another one in it would be a seam, at which what is inserted is shown."
  (goto-char beg)
  (rlm-fold-up-to (if (invisible-p (point))
                      (rlm-fold-beginning (point))
                    (line-end-position))
                  place))

(defun rlm-fold-up-to (from place)
  "Hide what is between FROM and PLACE.
The newline before PLACE is shown, unless what follows is hidden too."
  (goto-char place)
  (when (and (bolp) (not (invisible-p (point))))
    (rlm-fold-show-newline)
    (backward-char))
  (let ((to (point)))
    (when (< from to)
      (unless (and (rlm-fold--p from) (= (rlm-fold--next-change from to) to))
        (rlm-fold-region from to t 'outline))
      (rlm-fold--forget-faces from to))))

(defun rlm-fold-beginning (place)
  "Return the beginning of the fold up to PLACE; PLACE if there is none."
  (while (and (> place (point-min)) (rlm-fold--p (1- place)))
    (setq place (previous-single-char-property-change place 'invisible)))
  place)

;;;; Faces

(defun rlm-fold--forget-faces (from to)
  "Let go of the faces between FROM, an end of a line, and TO, which are hidden.
They come back when the text is shown.  Those of a long run would be a
burden to each garbage collection."
  (with-silent-modifications
    (remove-list-of-text-properties
     (1+ from) to '(fontified face font-lock-fontified font-lock-multiline mouse-face
                    help-echo keymap htmlize-link org-emphasis org-no-flyspell src-block))))

(defconst rlm-fold--specs
  '(outline org-fold-outline org-fold-drawer org-hide-drawer org-fold-block org-hide-block)
  "What hides text that is folded.")

(defun rlm-fold--p (place)
  "Return non-nil if the text at PLACE is hidden by a fold."
  (memq (get-char-property place 'invisible) rlm-fold--specs))

(defun rlm-fold--next-change (place end)
  "Return where after PLACE a fold begins or ends, at most END."
  (let ((folded (rlm-fold--p place)))
    (while (and (< (setq place (next-single-char-property-change place 'invisible nil end)) end)
                (eq (null folded) (null (rlm-fold--p place)))))
    place))

(defun rlm-fold-fontify (beg end &optional loudly)
  "Fontify what is not folded between BEG and END, LOUDLY as font-lock wants.
Emacs asks for hundreds of characters after each heading, folded or not.
What is folded is left for the time when it is shown, but for the newline
before it, at which Emacs would ask again whenever it shows the heading."
  (let ((python-indent-guess-indent-offset-verbose nil) ; Org has a buffer in that mode for code
        (place beg)
        bounds)
    (while (< place end)
      (let ((next (rlm-fold--next-change place end)))
        (if (rlm-fold--p place)
            (with-silent-modifications
              (put-text-property (min (1+ place) next) next 'fontified nil))
          (setq bounds (font-lock-default-fontify-region place next loudly))
          (rlm-fold--carry-face place))
        (setq bounds (and (= place beg) (= next end) bounds)
              place next)))
    bounds))

(defun rlm-fold--carry-face (place)
  "Give the newline at PLACE the face of before the fold that ends there, if any."
  (when (and (> place (point-min)) (eq (char-after place) ?\n) (rlm-fold--p (1- place)))
    (let ((before (previous-single-char-property-change place 'invisible)))
      (with-silent-modifications
        (put-text-property place (1+ place) 'face (get-text-property before 'face))))))

(defun rlm-fold-light-fontification ()
  "Let fontification of the current buffer, an Org buffer, make less garbage."
  ;; It looks at each newline for what `rlm-fold--carry-face' does at folds.
  (setq-local org-font-lock-keywords (remove '(org-activate-folds) org-font-lock-keywords))
  ;; Each call makes ten kilobytes of garbage before it has looked at anything.
  (setq-local jit-lock-chunk-size (max 4000 jit-lock-chunk-size))
  (setq-local font-lock-fontify-region-function #'rlm-fold-fontify))

;;;; Changes

(defvar org-fold-core--ignore-modifications)

(defun rlm-fold-insert (text)
  "Insert TEXT at point, hidden if it comes between what is hidden.
All else that has to be hidden is hidden by who inserts it.
What others do needlessly at each change is left out.  Since version 9.6, Org
looks at each whether it is within a fold: that makes garbage of kilobytes, and
takes the longer the more is folded.
Beside text whose faces nobody has looked for there are none to be renewed."
  (let ((beg (point))
        (fold (and (rlm-fold--p (point)) (> (point) (point-min)) (rlm-fold--p (1- (point)))
                   (get-char-property (point) 'invisible)))
        (org-fold-core--ignore-modifications t)
        (jit-lock-mode (and jit-lock-mode
                            (or (get-text-property (point) 'fontified)
                                (and (> (point) (point-min))
                                     (get-text-property (1- (point)) 'fontified))))))
    (insert text)
    (unless (or (null fold) (invisible-p beg)) ; within an overlay, it is
      (rlm-fold-region beg (point) t fold))))

(defun rlm-fold-delete (from to)
  "Delete the text between FROM and TO; Org need not see what that does to folds.
None is left behind, and to look makes garbage."
  (let ((org-fold-core--ignore-modifications t))
    (delete-region from to)))

(provide 'rlm-fold)
;;; rlm-fold.el ends here
