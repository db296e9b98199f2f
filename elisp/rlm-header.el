;;; rlm-header.el --- What a run is doing, in a line  -*- lexical-binding: t; -*-

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

;; The header line of a run's buffer: its status, what it has used, and a
;; bar for the limit that is nearest.  A click on the bar, or the keys of
;; `rlm-set-limits', `rlm-raise-limit' and `rlm-lower-limit', move that
;; limit while the run goes on.  The mode line of every window says how
;; many runs are going on.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'rlm-run)

(declare-function rlm-draw-attention "rlm-draw-steering" (run))
(declare-function rlm-set-limits "rlm-limits" (run limits))

(defcustom rlm-mode-line t
  "Whether the mode line says how many runs are going on.
It is a part of `global-mode-string', and only there while there are any."
  :group 'rlm
  :type 'boolean
  :package-version '(rlm . "0.1.0"))

;;;; Faces

(defface rlm-header
  '((t :inherit mode-line-emphasis))
  "Face of a run's status in the header line."
  :group 'rlm)

(defface rlm-header-good
  '((t :inherit success))
  "Face of the status of a run that has been answered."
  :group 'rlm)

(defface rlm-header-bad
  '((t :inherit error))
  "Face of the status of a run that has failed or was interrupted."
  :group 'rlm)

(defface rlm-header-warning
  '((t :inherit warning))
  "Face of the status of a run that a limit or the user has ended."
  :group 'rlm)

;;;; Header line

(defvar-local rlm-header--kept nil
  "Frame and text of the header line since the last change, or nil.")

(defun rlm-header-update ()
  "Let the header line and the mode line of the current buffer be made anew."
  (setq rlm-header--kept nil)
  (force-mode-line-update))

(defun rlm-header-line ()
  "Return the header line of the current buffer's run, as Emacs wants it.
A percent sign would mean something there.  Emacs asks several times for each
time that it shows the buffer, so the text is kept until `rlm-header-update'."
  (unless (eq (car rlm-header--kept) (selected-frame))
    (setq rlm-header--kept
          (cons (selected-frame)
                ;; Each with the properties of the one that it stands for: the bar can be clicked.
                (replace-regexp-in-string "%" (lambda (sign) (concat sign sign)) (rlm-header) t t))))
  (cdr rlm-header--kept))

(defun rlm-header ()
  "Return the header line of the current buffer's run."
  (let* ((run rlm-run-current)
         (elapsed (rlm-run-elapsed run)))
    (concat " " (rlm-header--status run)
            (mapconcat
             (lambda (text) (if (or (null text) (string-empty-p text)) "" (concat " | " text)))
             (list (or (rlm-draw-attention run)
                       (and (rlm-run-live-p run) (rlm-run-doing run))
                       (and (rlm-run-similar run) "a similar question's answer, A asks anew"))
                   ;; A terminal may have 80 columns; what counts least is cut off there.
                   (rlm-header--bar run)
                   (and elapsed (rlm-figure-clock elapsed))
                   (rlm-header--figures run)
                   (if (rlm-run-live-p run) "k cancel" "? help"))
             ""))))

(defun rlm-header--status (run)
  "Return the status of RUN with a face."
  (let ((status (rlm-run-status run)))
    (propertize status 'face (pcase status
                               ((or "running" "asking") 'rlm-header)
                               ("done" 'rlm-header-good)
                               ((or "limit" "cancelled") 'rlm-header-warning)
                               (_ 'rlm-header-bad)))))

(defun rlm-header--figures (run)
  "Return what RUN has used so far."
  (when (rlm-run-started run)
    (format "%s | %s tokens | iteration %d | sub-calls %d/%d%s"
            (let ((cost (rlm-run-cost run)))
              (if (null cost) "cost unknown"
                (if (zerop cost) "no cost" (rlm-figure-cost cost))))
            (rlm-figure-number (rlm-run-tokens run))
            (rlm-run-iterations run) (rlm-run-subcalls-done run) (rlm-run-subcalls run)
            (if (zerop (rlm-run-cached run)) "" (format " | %d cached" (rlm-run-cached run))))))


;;;; The bar

(defun rlm-header-limit (run)
  "Return the limit of RUN that is nearest, as (NAME USED LIMIT), or nil."
  (let ((limits (rlm-run-limits run)) nearest)
    (pcase-dolist (`(,name . ,used) `((:cost . ,(rlm-run-cost run))
                                      (:tokens . ,(rlm-run-tokens run))
                                      (:iterations . ,(rlm-run-iterations run))
                                      (:subcalls . ,(rlm-run-subcalls run))
                                      (:seconds . ,(rlm-run-elapsed run))))
      (let ((limit (plist-get limits name)))
        (when (and used limit (> limit 0)
                   (or (null nearest)
                       (> (/ (float used) limit) (/ (float (nth 1 nearest)) (nth 2 nearest)))))
          (setq nearest (list name used limit)))))
    nearest))

(defvar rlm-header--bar-map
  (let ((map (make-sparse-keymap)))
    (define-key map [header-line mouse-1] #'rlm-header--click)
    map)
  "Keys of the bar in the header line.")

(defun rlm-header--click (event)
  "Change a limit of the run whose bar EVENT clicked."
  (interactive "e")
  (with-selected-window (posn-window (event-start event))
    (call-interactively #'rlm-set-limits)))

(defun rlm-header--bar (run)
  "Return a bar for how near the live RUN is to its nearest limit."
  (when-let ((nearest (and (rlm-run-live-p run) (rlm-header-limit run))))
    (pcase-let* ((`(,name ,used ,limit) nearest)
                 (share (min 1.0 (/ (float used) limit)))
                 (full (round (* 8 share)))
                 (`(,solid . ,empty) (rlm-header--signs)))
      (propertize
       (format "%s%s %d%% of %s" (make-string full solid) (make-string (- 8 full) empty)
               (floor (* 100 share)) (rlm-header--limit-text name limit))
       'face (cond ((< share 0.7) 'rlm-header-good)
                   ((< share 0.9) 'rlm-header-warning)
                   (t 'rlm-header-bad))
       'help-echo "mouse-1, L: change the limits; > and <: this one by a quarter"
       'mouse-face 'mode-line-highlight
       'local-map rlm-header--bar-map))))

(defun rlm-header--signs ()
  "Return the signs of the bar that this frame can show, full and empty.
It takes long to find out."
  (or (frame-parameter nil 'rlm-header-signs)
      (let ((signs (if (and (char-displayable-p ?█) (char-displayable-p ?░))
                       '(?█ . ?░)
                     '(?# . ?-))))
        (set-frame-parameter nil 'rlm-header-signs signs)
        signs)))

(defun rlm-header--limit-text (name limit)
  "Return LIMIT of the kind NAME in a few words."
  (pcase name
    (:seconds (rlm-figure-clock limit))
    (:cost (rlm-run-limit-text name limit))
    (_ (format "%s %s" (rlm-figure-number limit)
               (pcase name (:subcalls "sub-calls") (_ (substring (symbol-name name) 1)))))))

(defun rlm-raise-limit (run)
  "Raise the limit of RUN that is nearest by a quarter."
  (interactive (list (rlm-run-in-buffer)))
  (rlm-header--move run 1.25))

(defun rlm-lower-limit (run)
  "Lower the limit of RUN that is nearest by a fifth, so undoing one raise."
  (interactive (list (rlm-run-in-buffer)))
  (rlm-header--move run 0.8))

(defun rlm-header--move (run factor)
  "Multiply the nearest limit of RUN by FACTOR."
  (pcase (and run (rlm-run-live-p run) (rlm-header-limit run))
    (`(,name ,_ ,limit)
     (let ((value (cond ((not (integerp limit)) (* factor limit))
                        ((> factor 1) (max (1+ limit) (round (* factor limit))))
                        (t (max 1 (min (1- limit) (round (* factor limit))))))))
       (rlm-set-limits run (list name value))
       (message "%s: %s" (cdr (assq name rlm-run-limit-names))
                (rlm-run-limit-text name value))))
    (_ (user-error "No run with a limit is going on here"))))

;;;; The clock, and the mode line

(defvar rlm-header--clock nil
  "Timer that lets the header lines of live runs count, or nil.")

(defun rlm-header-start-clock ()
  "Let time go on in the header line of each live run."
  (unless rlm-header--clock
    (setq rlm-header--clock (run-at-time 1 1 #'rlm-header--tick))))

(defun rlm-header--tick ()
  "Let the header line of each live run count; stop if there is none."
  (let (live)
    (dolist (buffer (buffer-list))
      (when-let ((run (buffer-local-value 'rlm-run-current buffer)))
        (when (rlm-run-live-p run)
          (setq live t)
          (when (get-buffer-window buffer t)
            (with-current-buffer buffer
              (rlm-header-update))))))
    (unless live
      (cancel-timer rlm-header--clock)
      (setq rlm-header--clock nil))
    (rlm-header-count)))

(defvar rlm-header-mode-line nil
  "Text in the mode line while runs are going on.")
(put 'rlm-header-mode-line 'risky-local-variable t)

(defvar rlm-header--mode-line-map
  (let ((map (make-sparse-keymap)))
    (define-key map [mode-line mouse-1] #'rlm-header-visit)
    map)
  "Keys of the text in the mode line.")

(defun rlm-header-count ()
  "Let the mode line have the count of what is going on."
  (let* ((count (if rlm-mode-line (length (rlm-run-live-buffers)) 0))
         (text (unless (zerop count)
                 (propertize (format " rlm:%d" count)
                             'face 'rlm-header
                             'help-echo (format "%s going on; mouse-1: show it"
                                                (rlm-figure-count count "run"))
                             'mouse-face 'mode-line-highlight
                             'local-map rlm-header--mode-line-map))))
    (rlm-header--place text)
    (unless (equal text rlm-header-mode-line)
      (setq rlm-header-mode-line text)
      (force-mode-line-update t))))

(defun rlm-header--place (wanted)
  "Have our text in `global-mode-string' if it is WANTED, and only then."
  (cond ((and wanted (not (memq 'rlm-header-mode-line (ensure-list global-mode-string))))
         (setq global-mode-string (append (or (ensure-list global-mode-string) '(""))
                                          '(rlm-header-mode-line))))
        ((and (not wanted) (listp global-mode-string))
         (setq global-mode-string (remq 'rlm-header-mode-line global-mode-string)))))

(defun rlm-header-visit ()
  "Show the run that is going on, or the next of them."
  (interactive)
  (let* ((live (rlm-run-live-buffers))
         (next (or (cadr (memq (current-buffer) live)) (car live))))
    (if next
        (pop-to-buffer next)
      (user-error "No run is going on"))))

(provide 'rlm-header)
;;; rlm-header.el ends here
